//! CIFAR-10 records from anywhere: refused with a reason, or read within their bounds.

#![no_main]

use datasets::cifar10;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match cifar10::parse(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(data) => {
            assert_eq!(data.len() * cifar10::RECORD_BYTES, bytes.len());
            assert_eq!(data.images.len(), data.len() * cifar10::IMAGE_BYTES);
            assert!(
                data.labels
                    .iter()
                    .all(|label| usize::from(*label) < cifar10::CLASSES)
            );
        }
    }
});

//! A safetensors file from anywhere: refused with a reason, or read within its bounds.

#![no_main]

use datasets::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: Vec<u8>| {
    match Checkpoint::parse(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(checkpoint) => {
            for tensor in checkpoint.tensors() {
                let elements: usize = tensor.shape.iter().product();
                assert_eq!(elements * tensor.dtype.bitsize(), tensor.bytes.len() * 8);
            }
            let _ = checkpoint.check(&[]).map_err(|error| error.to_string());
            let _ = checkpoint.description.summary();
        }
    }
});

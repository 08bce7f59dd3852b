//! Result files: no bytes may panic the reader, and what it accepts must be
//! written again and mean the same.
#![no_main]

use accel::results::ResultFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = ResultFile::parse(bytes) else {
        return;
    };
    file.validate().expect("what is accepted is valid");
    let text = serde_json::to_vec(&file).expect("what is accepted can be JSON");
    let again = ResultFile::parse(&text).expect("what is written is accepted");
    assert_eq!(again, file);
});

//! Looks at a library's first bytes before the loader does, to say plainly what is wrong.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::plugin::PluginError;

/// A processor that a library is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// Another, by the number that the file's format has for it.
    Other(u32),
}

impl Machine {
    /// Of this program.
    const fn here() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::X86_64
        } else if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::Other(0)
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X86_64 => f.pad("x86-64"),
            Self::Aarch64 => f.pad("aarch64"),
            Self::Other(number) => write!(f, "machine {number}"),
        }
    }
}

/// Looks whether the file at `path` is a shared library for this system and processor.
///
/// # Errors
/// [`PluginError`]: `Open`, `NotAFile`, `NotALibrary` or `Architecture`.
pub fn check(path: &Path) -> Result<(), PluginError> {
    let open = |cause| PluginError::Open {
        path: path.to_owned(),
        cause,
    };
    let not_a_library = |problem: String| PluginError::NotALibrary {
        path: path.to_owned(),
        problem,
    };
    // Asked before it is opened: opening a named pipe would wait for a writer.
    if !path.metadata().map_err(open)?.is_file() {
        return Err(PluginError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut head = [0; 64];
    let length = read_up_to(&mut File::open(path).map_err(open)?, &mut head).map_err(open)?;
    let head = &head[..length];
    let machine = if cfg!(target_os = "macos") {
        mach_o(head)
    } else if cfg!(unix) {
        elf(head)
    } else {
        return Ok(());
    };
    let got = machine.map_err(not_a_library)?;
    let expected = Machine::here();
    match (got, expected) {
        // A processor that this file does not know: the loader will say.
        (_, Machine::Other(_)) | (None, _) => Ok(()),
        (Some(got), expected) if got == expected => Ok(()),
        (Some(got), expected) => Err(PluginError::Architecture {
            path: path.to_owned(),
            expected,
            got,
        }),
    }
}

fn read_up_to(file: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The machine of an ELF shared object. Fields as in the System V ABI: class at 4, data at 5,
/// type at 16, machine at 18.
fn elf(head: &[u8]) -> Result<Option<Machine>, String> {
    if head.is_empty() {
        return Err("it is empty".to_owned());
    }
    if !head.starts_with(b"\x7fELF") {
        return Err("it does not begin as an ELF file does".to_owned());
    }
    if head.len() < 64 {
        return Err("it ends within its header".to_owned());
    }
    let little = head[5] == 1;
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1]];
        if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        }
    };
    const SHARED_OBJECT: u16 = 3;
    if number(16) != SHARED_OBJECT {
        return Err("it is an ELF file of another kind than a shared object".to_owned());
    }
    Ok(Some(match number(18) {
        62 => Machine::X86_64,
        183 => Machine::Aarch64,
        other => Machine::Other(u32::from(other)),
    }))
}

/// The machine of a Mach-O library; `None` for a file that holds several.
fn mach_o(head: &[u8]) -> Result<Option<Machine>, String> {
    const SINGLE_64: [u8; 4] = 0xfeed_facf_u32.to_le_bytes();
    const SEVERAL: [[u8; 4]; 2] = [0xcafe_babe_u32.to_be_bytes(), 0xcafe_babf_u32.to_be_bytes()];
    let Some((magic, rest)) = head.split_first_chunk::<4>() else {
        return Err("it is shorter than a header".to_owned());
    };
    if SEVERAL.contains(magic) {
        return Ok(None);
    }
    match rest.first_chunk::<4>() {
        Some(cpu) if *magic == SINGLE_64 => Ok(Some(match u32::from_le_bytes(*cpu) {
            0x0100_0007 => Machine::X86_64,
            0x0100_000c => Machine::Aarch64,
            other => Machine::Other(other),
        })),
        _ => Err("it does not begin as a Mach-O file does".to_owned()),
    }
}

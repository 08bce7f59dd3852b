//! Protocol buffers, as much of them as PJRT's bytes need: a writer and a reader of fields.
//!
//! A message is a list of fields; a field is a key (its number and how its value is written)
//! and the value: <https://protobuf.dev/programming-guides/encoding/>.

/// A message that is being written.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// The bytes written so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    /// An int32, int64 or bool. Negative numbers take ten bytes.
    pub fn int(&mut self, field: u32, value: i64) {
        self.key(field, 0);
        self.varint(value as u64);
    }

    /// A double.
    pub fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    /// A string or bytes.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    /// A message within this one.
    pub fn message(&mut self, field: u32, value: &Self) {
        self.bytes(field, &value.0);
    }

    /// A list of integers.
    pub fn packed(&mut self, field: u32, values: &[i64]) {
        let mut list = Self::default();
        for value in values {
            list.varint(*value as u64);
        }
        self.message(field, &list);
    }
}

/// The value of a field that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// An integer, bool or enumeration.
    Int(u64),
    /// A string, bytes, a message or a packed list.
    Bytes(&'a [u8]),
    /// Eight or four bytes, which no message that we read has use for.
    Fixed,
}

impl<'a> Field<'a> {
    /// Bytes, if it is such a field.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Int(_) | Self::Fixed => None,
        }
    }
}

/// Reads the fields of a message one by one. Ends with `None` in place of a field where the
/// bytes are no message.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of the message in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Field::Int(varint(&mut self.0)?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = varint(&mut self.0)?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Takes an integer from the beginning of `bytes`.
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.packed(1, &[3, 300, -1]);
        let mut outer = Message::default();
        outer.int(1, -1);
        outer.double(2, 0.5);
        outer.message(3, &inner);
        outer.bytes(100, b"text");
        let bytes = outer.into_bytes();
        let fields = Fields::new(&bytes).collect::<Option<Vec<_>>>().unwrap();
        assert_eq!(fields.len(), 4);
        assert_eq!(fields[0], (1, Field::Int(u64::MAX)));
        assert_eq!(fields[1], (2, Field::Fixed));
        assert_eq!(fields[3], (100, Field::Bytes(b"text")));
        let (3, Field::Bytes(inner)) = fields[2] else {
            panic!("{:?}", fields[2]);
        };
        let (1, Field::Bytes(mut list)) = Fields::new(inner).next().unwrap().unwrap() else {
            panic!("{inner:?}");
        };
        let values = std::iter::from_fn(|| varint(&mut list)).collect::<Vec<_>>();
        assert_eq!(values, [3, 300, u64::MAX]);
    }

    #[test]
    fn bytes_that_are_no_message_end_the_reading() {
        // Cut off after a key, within a length, within a value; a group; an endless varint.
        let endless = [0x80; 11];
        for bytes in [&[0x08][..], &[0x12, 0x80], &[0x12, 5, 1], &[0x0b], &endless] {
            assert!(Fields::new(bytes).any(|field| field.is_none()), "{bytes:?}");
            assert_eq!(Fields::new(bytes).collect::<Option<Vec<_>>>(), None);
        }
    }
}

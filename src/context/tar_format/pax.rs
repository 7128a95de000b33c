//! Parses PAX records by their lengths, because the values of extended attributes can be any bytes, and the `tar` crate ends a
//! record at the first line feed. The readers decide which records to use.

use std::io;

use tar::EntryType;

/// A record of an extension header: a key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, without `=`.
    pub key: Vec<u8>,
    /// The value, which can be any bytes.
    pub value: Vec<u8>,
}

impl Record {
    /// The record in the format of a PAX header.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        // The length counts its own digits.
        let rest = self.key.len() + self.value.len() + b" =\n".len();
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length += 1;
        }
        [length.to_string().as_bytes(), b" ", &self.key, b"=", &self.value, b"\n"].concat()
    }

    /// The value as a number.
    pub fn number(&self) -> io::Result<u64> {
        let number = str::from_utf8(&self.value).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| io::Error::other(format!("{:?} is no number", String::from_utf8_lossy(&self.value))))
    }
}

/// The first record of a PAX header, `LENGTH KEY=VALUE\n` with the length of the whole record, and the bytes after it.
#[must_use]
pub fn split_record(text: &[u8]) -> Option<(Record, &[u8])> {
    let digits = text.iter().position(|byte| *byte == b' ')?;
    let length: usize = str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    let record = text.get(digits + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (record[..equals].to_vec(), record[equals + 1..].to_vec());
    Some((Record { key, value }, &text[length..]))
}

/// The records of an extension header, for the next entry. GNU's long names become the equivalent PAX records.
pub fn records_of(kind: EntryType, mut text: &[u8]) -> io::Result<Vec<Record>> {
    let long = |key: &[u8]| {
        let value = text.split(|byte| *byte == 0).next().unwrap_or_default();
        vec![Record { key: key.to_vec(), value: value.to_vec() }]
    };
    match kind {
        EntryType::GNULongName => return Ok(long(b"path")),
        EntryType::GNULongLink => return Ok(long(b"linkpath")),
        EntryType::XHeader => {}
        // A global header for all entries that follow: engines ignore it.
        _ => return Ok(Vec::new()),
    }
    let mut records = Vec::new();
    // Some writers pad with zeros.
    while text.first().is_some_and(|first| *first != 0) {
        let (record, rest) = split_record(text).ok_or_else(|| io::Error::other("an extension header is damaged"))?;
        records.push(record);
        text = rest;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_names_are_records_too() {
        let record = |key: &str, value: &str| vec![Record { key: key.into(), value: value.into() }];
        assert_eq!(records_of(EntryType::GNULongName, b"a\0\0").unwrap(), record("path", "a"));
        assert_eq!(records_of(EntryType::GNULongLink, b"a").unwrap(), record("linkpath", "a"));
        assert_eq!(records_of(EntryType::XHeader, b"11 path=ab\n\0\0").unwrap(), record("path", "ab"));
        assert_eq!(records_of(EntryType::XGlobalHeader, b"11 path=ab\n").unwrap(), []);
        for damaged in ["11 path=ab", "9 path=ab\n", "x", " path=ab\n", "6 abc\n", "3 a", "2 =\n"] {
            assert!(records_of(EntryType::XHeader, damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(key in "[a-z.]{0,120}", value in any::<Vec<u8>>(), rest in any::<Vec<u8>>()) {
            let record = Record { key: key.into(), value };
            let text = [record.text(), rest.clone()].concat();
            prop_assert_eq!(split_record(&text), Some((record, rest.as_slice())));
        }
    }
}

//! A file that holds one value and nothing else, but perhaps a line end.

use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;

use super::{DestinationError, Standing, open, replace};

/// A file that holds a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainFile {
    path: PathBuf,
}

impl PlainFile {
    /// The file of this path.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The file as it is.
    ///
    /// # Errors
    ///
    /// [`DestinationError::File`].
    pub fn read(&self) -> Result<SecretBytes, DestinationError> {
        Ok(SecretBytes::copy_from(open(&self.path)?.bytes()))
    }

    /// Checks that the file holds this value.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Drifted`].
    pub fn check_holds(&self, file: &SecretBytes, value: &SecretBytes) -> Result<(), DestinationError> {
        if without_line_end(file) == value.expose() {
            return Ok(());
        }
        Err(DestinationError::Drifted { path: self.path.clone(), what: "its content".to_owned() })
    }

    /// Whether the value stands in the file, which was `before`.
    ///
    /// # Errors
    ///
    /// [`DestinationError::File`].
    pub fn standing(&self, before: &SecretBytes, value: &SecretBytes) -> Result<Standing, DestinationError> {
        let is_done = self.read()? == filled(before, value);
        Ok(if is_done { Standing::Done } else { Standing::NotDone })
    }

    /// Puts the value into the file, with the line end that it has.
    ///
    /// # Errors
    ///
    /// [`DestinationError::File`]; the old file stands.
    pub fn write(&self, value: &SecretBytes) -> Result<(), DestinationError> {
        let target = open(&self.path)?;
        let now = SecretBytes::copy_from(target.bytes());
        let new = filled(&now, value);
        if new == now { Ok(()) } else { replace(target, &self.path, &new) }
    }

    /// Puts back what the file was before.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Overwritten`] if it holds neither that nor `value`; [`DestinationError::File`].
    pub fn put_back(&self, before: &SecretBytes, value: &SecretBytes) -> Result<(), DestinationError> {
        let target = open(&self.path)?;
        let now = SecretBytes::copy_from(target.bytes());
        if now == *before {
            return Ok(());
        }
        if now != filled(before, value) {
            let what = "its content".to_owned();
            return Err(DestinationError::Overwritten { path: self.path.clone(), what });
        }
        replace(target, &self.path, before)
    }
}

fn filled(file: &SecretBytes, value: &SecretBytes) -> SecretBytes {
    // EXPOSE: put together and wiped.
    let line_end = &file.expose()[without_line_end(file).len()..];
    SecretBytes::new([value.expose(), line_end].concat())
}

fn without_line_end(file: &SecretBytes) -> &[u8] {
    let bytes = file.expose();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_end_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("token");
        let (old, new) = (SecretBytes::copy_from(b"one"), SecretBytes::copy_from(b"two"));
        for end in ["", "\n", "\r\n"] {
            std::fs::write(&path, format!("one{end}")).unwrap();
            let file = PlainFile::new(&path);
            let before = file.read().unwrap();
            file.check_holds(&before, &old).unwrap();
            file.write(&new).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), format!("two{end}").into_bytes());
            assert_eq!(file.standing(&before, &new).unwrap(), Standing::Done);
            file.put_back(&before, &new).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), format!("one{end}").into_bytes());
        }
        std::fs::write(&path, "three").unwrap();
        let file = PlainFile::new(&path);
        assert!(file.put_back(&old, &new).is_err(), "someone else's value is not replaced");
    }
}

//! Variables of a `.env` file: all edits of a rotation in one file are one replacement of it.

use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;
use reseal_env::{Edit, Outcome, Reader};

use super::{DestinationError, Standing, open, replace, spliced};
use crate::plan::Spot;

/// A file and the programs that read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    path: PathBuf,
    readers: Vec<Reader>,
}

/// One value for one spot of one variable.
#[derive(Debug, Clone)]
pub struct EnvValue<'a> {
    /// The variable.
    pub var: &'a str,
    /// Where in it.
    pub spot: &'a Spot,
    /// What shall stand there.
    pub value: SecretBytes,
}

impl EnvFile {
    /// A file whose readers go by these names.
    ///
    /// # Errors
    ///
    /// [`DestinationError::UnknownReader`].
    pub fn new(path: &Path, readers: &[String]) -> Result<Self, DestinationError> {
        let known = |name: &String| {
            Reader::from_name(name).ok_or_else(|| DestinationError::UnknownReader {
                path: path.to_owned(),
                reader: name.clone(),
            })
        };
        Ok(Self { path: path.to_owned(), readers: readers.iter().map(known).collect::<Result<_, _>>()? })
    }

    /// The file as it is.
    ///
    /// # Errors
    ///
    /// [`DestinationError::File`].
    pub fn read(&self) -> Result<SecretBytes, DestinationError> {
        Ok(SecretBytes::copy_from(open(&self.path)?.bytes()))
    }

    /// The bytes `file` with these values in their places; proved against every reader.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Edit`].
    pub fn edited(
        &self,
        file: &SecretBytes,
        values: &[EnvValue<'_>],
    ) -> Result<SecretBytes, DestinationError> {
        let mut bytes = file.clone();
        for value in values {
            // Otherwise every reader reads it already, or reads it from the variable that the place refers to.
            if let Some(Outcome::Changed(new)) = self.outcome(&bytes, value)? {
                bytes = SecretBytes::copy_from(new.expose());
            }
        }
        Ok(bytes)
    }

    /// Whether every reader reads this value in its place, written there itself.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Edit`].
    pub fn reads(&self, file: &SecretBytes, value: &EnvValue<'_>) -> Result<bool, DestinationError> {
        Ok(self.outcome(file, value)? == Some(Outcome::Unchanged))
    }

    fn outcome(&self, file: &SecretBytes, value: &EnvValue<'_>) -> Result<Option<Outcome>, DestinationError> {
        let Some(place) = value.spot.to_place() else { return Ok(None) };
        let edit = Edit { name: value.var.to_owned(), place, readers: self.readers.clone() };
        // EXPOSE: put into the text of the file.
        let outcome = reseal_env::edit(file.expose(), &edit, value.value.expose());
        let refused = |source| DestinationError::Edit { path: self.path.clone(), source };
        outcome.map(Some).map_err(refused)
    }

    /// Checks that these values are what every reader reads now.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Drifted`] with the first variable that is read otherwise.
    pub fn check_holds(&self, file: &SecretBytes, values: &[EnvValue<'_>]) -> Result<(), DestinationError> {
        for value in values {
            if self.edited(file, std::slice::from_ref(value))? != *file {
                let what = value.var.to_owned();
                return Err(DestinationError::Drifted { path: self.path.clone(), what });
            }
        }
        Ok(())
    }

    /// Whether the values stand in the file, which was `before`.
    ///
    /// # Errors
    ///
    /// [`DestinationError::File`], [`DestinationError::Edit`].
    pub fn standing(
        &self,
        before: &SecretBytes,
        values: &[EnvValue<'_>],
    ) -> Result<Standing, DestinationError> {
        let now = self.read()?;
        let is_done = now == self.edited(before, values)? || now == self.edited(&now, values)?;
        Ok(if is_done { Standing::Done } else { Standing::NotDone })
    }

    /// Puts the values into the file.
    ///
    /// # Errors
    ///
    /// [`DestinationError::File`], [`DestinationError::Edit`]; the old file stands.
    pub fn write(&self, values: &[EnvValue<'_>]) -> Result<(), DestinationError> {
        let target = open(&self.path)?;
        let now = SecretBytes::copy_from(target.bytes());
        let new = self.edited(&now, values)?;
        if new == now { Ok(()) } else { replace(target, &self.path, &new) }
    }

    /// Puts back what the file was before: every byte of it, or where someone else changed it meanwhile, the variables.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Overwritten`] if the lines of a variable are not there any more; [`DestinationError::File`].
    pub fn put_back(&self, before: &SecretBytes, values: &[EnvValue<'_>]) -> Result<(), DestinationError> {
        let target = open(&self.path)?;
        let now = SecretBytes::copy_from(target.bytes());
        if now == *before {
            return Ok(());
        }
        if now == self.edited(before, values)? {
            return replace(target, &self.path, before);
        }
        // EXPOSE: text of the file, put together and wiped.
        let spliced = spliced::put_back(now.expose(), before.expose(), values.iter().map(|value| value.var));
        let new = spliced.ok_or_else(|| DestinationError::Overwritten {
            path: self.path.clone(),
            what: values.iter().map(|value| value.var).collect::<Vec<_>>().join(", "),
        })?;
        if new == now { Ok(()) } else { replace(target, &self.path, &new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::copy_from(text.as_bytes())
    }

    fn file(text: &str) -> (tempfile::TempDir, EnvFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join(".env");
        std::fs::write(&path, text).unwrap();
        let file = EnvFile::new(&path, &["shell".to_owned(), "python-dotenv".to_owned()]).unwrap();
        (directory, file)
    }

    #[test]
    fn edits_go_in_and_come_out_byte_for_byte() {
        let text = "# keys\nexport KEY='one'\nURL=redis://:one@host:6379/0\nOLD=\n";
        let (_directory, env) = file(text);
        let (old, new) = (secret("one"), secret("two"));
        let values = [
            EnvValue { var: "KEY", spot: &Spot::Whole, value: new.clone() },
            EnvValue { var: "URL", spot: &Spot::UrlPassword, value: new.clone() },
            EnvValue { var: "OLD", spot: &Spot::Whole, value: old.clone() },
        ];
        let before = env.read().unwrap();
        assert_eq!(env.standing(&before, &values).unwrap(), Standing::NotDone);
        env.write(&values).unwrap();
        assert_eq!(env.standing(&before, &values).unwrap(), Standing::Done);
        let written = "# keys\nexport KEY='two'\nURL=redis://:two@host:6379/0\nOLD=one\n";
        assert_eq!(env.read().unwrap(), secret(written));
        env.put_back(&before, &values).unwrap();
        assert_eq!(env.read().unwrap(), secret(text));
    }

    #[test]
    fn what_others_changed_stays_when_values_go_back() {
        let (_directory, env) = file("KEY='one'\nA=1\n");
        let new = secret("two");
        let values = [EnvValue { var: "KEY", spot: &Spot::Whole, value: new.clone() }];
        let before = env.read().unwrap();
        env.write(&values).unwrap();
        std::fs::write(&env.path, "KEY='two'\nA=2\n").unwrap();
        assert_eq!(env.standing(&before, &values).unwrap(), Standing::Done);
        env.put_back(&before, &values).unwrap();
        assert_eq!(env.read().unwrap(), secret("KEY='one'\nA=2\n"));
        std::fs::write(&env.path, "A=2\n").unwrap();
        let lost = env.put_back(&before, &values).unwrap_err();
        assert!(matches!(lost, DestinationError::Overwritten { .. }), "{lost}");
    }

    #[test]
    fn a_file_with_another_value_has_drifted() {
        let (_directory, env) = file("KEY=other\n");
        let old = secret("one");
        let values = [EnvValue { var: "KEY", spot: &Spot::Whole, value: old.clone() }];
        let drifted = env.check_holds(&env.read().unwrap(), &values).unwrap_err();
        assert!(matches!(&drifted, DestinationError::Drifted { what, .. } if what == "KEY"), "{drifted}");
    }
}

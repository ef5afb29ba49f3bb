//! Where in a variable a value stands: `part`, `sep` and `template` of a place.

use serde::{Deserialize, Serialize};

use super::places::Place;

/// Where in a variable a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Spot {
    /// The value is the variable.
    Whole,
    /// The variable is this text with the value for every `{value}`.
    Template(String),
    /// The user of a URL.
    UrlUser,
    /// The password of a URL.
    UrlPassword,
    /// User and password of a URL: both change where login roles take turns.
    UrlUserinfo,
    /// One element of a list.
    ListItem {
        /// What is between the elements.
        separator: char,
        /// Which one, from 0.
        index: usize,
    },
    /// Every element of a list, one value per node of the server.
    List {
        /// What is between the elements.
        separator: char,
    },
    /// A string of a JSON document, by its pointer (RFC 6901).
    Json(String),
}

impl Spot {
    /// The place as an edit takes it; `None` where it takes several values.
    pub fn to_place(&self) -> Option<reseal_env::Place> {
        use reseal_env::{Place as Env, UrlPart};
        Some(match self {
            Self::Whole => Env::Whole,
            Self::Template(template) => Env::Template(template.clone()),
            Self::UrlUser => Env::Url(UrlPart::User),
            Self::UrlPassword => Env::Url(UrlPart::Password),
            Self::UrlUserinfo => Env::Url(UrlPart::UserInfo),
            Self::ListItem { separator, index } => Env::ListItem { separator: *separator, index: *index },
            Self::Json(pointer) => Env::JsonPointer(pointer.clone()),
            Self::List { .. } => return None,
        })
    }
}

impl std::fmt::Display for Spot {
    /// The part, as a plan names it; nothing for the whole.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_place() {
            None => f.write_str("list"),
            Some(reseal_env::Place::Whole) => Ok(()),
            Some(reseal_env::Place::Template(_)) => f.write_str("template"),
            Some(place) => place.fmt(f),
        }
    }
}

impl Place {
    /// Where in its variable the value stands.
    ///
    /// # Errors
    ///
    /// What is wrong with `part`, `sep` or `template`, as the end of a sentence about the place.
    pub fn spot(&self) -> Result<Spot, &'static str> {
        let separator = || {
            let text = self.sep.as_deref().unwrap_or(",");
            let mut characters = text.chars();
            match (characters.next(), characters.next()) {
                (Some(separator), None) => Ok(separator),
                _ => Err("has a `sep` that is not one character"),
            }
        };
        match (self.part.as_deref(), &self.template) {
            (None, None) => Ok(Spot::Whole),
            (None | Some("template"), Some(template)) if template.contains("{value}") => {
                Ok(Spot::Template(template.clone()))
            }
            (None | Some("template"), _) => Err("needs a `template` with {value} in it"),
            (Some(_), Some(_)) => Err("has a `template` and another `part`"),
            (Some("url.user"), None) => Ok(Spot::UrlUser),
            (Some("url.password"), None) => Ok(Spot::UrlPassword),
            (Some("url.userinfo"), None) => Ok(Spot::UrlUserinfo),
            (Some("list"), None) => Ok(Spot::List { separator: separator()? }),
            (Some(part), None) => {
                if let Some(pointer) = part.strip_prefix("json:") {
                    return Ok(Spot::Json(pointer.to_owned()));
                }
                let index = part.strip_prefix("list[").and_then(|rest| rest.strip_suffix(']'));
                let index = index.and_then(|digits| digits.parse().ok()).ok_or("has an unknown `part`")?;
                Ok(Spot::ListItem { separator: separator()?, index })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(text: &str) -> Result<Spot, &'static str> {
        let place: Place = toml::from_str(text).unwrap();
        place.spot()
    }

    #[test]
    fn parts_are_read() {
        assert_eq!(spot("var = 'X'"), Ok(Spot::Whole));
        assert_eq!(spot("part = 'url.password'"), Ok(Spot::UrlPassword));
        assert_eq!(spot("part = 'list[2]'\nsep = ';'"), Ok(Spot::ListItem { separator: ';', index: 2 }));
        assert_eq!(spot("part = 'json:/a/b'"), Ok(Spot::Json("/a/b".into())));
        assert_eq!(spot("template = 'a {value} b'"), Ok(Spot::Template("a {value} b".into())));
        for wrong in
            ["part = 'url.host'", "part = 'list[x]'", "part = 'template'", "part = 'list'\nsep = '::'"]
        {
            assert!(spot(wrong).is_err(), "{wrong}");
        }
    }
}

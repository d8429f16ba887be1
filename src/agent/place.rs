//! Where programs keep things outside of the folder that they work in. Pure.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// A folder or a file that a program keeps below the home folder, unless a variable says where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Variables that say where, the first that is set, each with what is below it; empty for itself.
    variables: &'static [(&'static str, &'static str)],
    /// Where it is otherwise, relative to the home folder; empty when it is nowhere then.
    usual: &'static str,
    /// Whether it is a folder.
    is_folder: bool,
}

impl Place {
    /// A folder.
    pub const fn folder(
        variables: &'static [(&'static str, &'static str)],
        usual: &'static str,
    ) -> Self {
        Self {
            variables,
            usual,
            is_folder: true,
        }
    }

    /// A file.
    pub const fn file(
        variables: &'static [(&'static str, &'static str)],
        usual: &'static str,
    ) -> Self {
        Self {
            is_folder: false,
            ..Self::folder(variables, usual)
        }
    }

    /// Whether it is a folder, which can be made where it is missing.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// Where it is for a program with these variables; none when it has no such place, or only a relative one.
    pub fn path(&self, variables: &[(OsString, OsString)]) -> Option<PathBuf> {
        // Of a variable that is set twice, programs get the last value.
        let value = |name: &str| {
            let mut set = variables.iter().rev();
            let (_, value) = set.find(|(set, _)| set == OsStr::new(name))?;
            (!value.is_empty()).then_some(value)
        };
        let mut named = self.variables.iter();
        let named = named.find_map(|(name, rest)| Some((value(name)?, *rest)));
        let (root, rest) = match named {
            Some(named) => named,
            None if self.usual.is_empty() => return None,
            None => (value("HOME")?, self.usual),
        };
        let root = PathBuf::from(root);
        // Joined with nothing, a path gets a slash at its end.
        let path = if rest.is_empty() {
            root
        } else {
            root.join(rest)
        };
        path.is_absolute().then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_variable_moves_it() {
        let place = Place::folder(&[("GOMODCACHE", ""), ("GOPATH", "pkg")], "go/pkg");
        let path = |set: &[(&str, &str)]| {
            let set: Vec<_> = set
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            place.path(&set)
        };
        assert_eq!(path(&[]), None);
        let home = ("HOME", "/h");
        assert_eq!(path(&[home]).as_deref(), Some(Path::new("/h/go/pkg")));
        assert_eq!(
            path(&[home, ("GOPATH", "")]).as_deref(),
            Some(Path::new("/h/go/pkg"))
        );
        assert_eq!(
            path(&[home, ("GOPATH", "/g")]).as_deref(),
            Some(Path::new("/g/pkg"))
        );
        let both = [("GOPATH", "/g"), ("GOMODCACHE", "/m"), home];
        assert_eq!(path(&both).as_deref(), Some(Path::new("/m")));
        assert_eq!(path(&[home, ("GOPATH", "g")]), None);
        let twice = [("GOPATH", "/g"), ("GOPATH", "/new")];
        assert_eq!(path(&twice).as_deref(), Some(Path::new("/new/pkg")));
        let nowhere = Place::folder(&[("CARGO_TARGET_DIR", "")], "");
        assert_eq!(nowhere.path(&[("HOME".into(), "/h".into())]), None);
    }
}

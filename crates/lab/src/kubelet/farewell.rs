//! The last words of a container that failed, for its status: the end of its log, where it asks for that.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// What a status takes of a log, as with the kubelet of Kubernetes.
const OCTETS: u64 = 2048;
const LINES: usize = 80;

/// None: it said nothing.
pub(super) fn last_words(log: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OCTETS)))?;
    let mut octets = Vec::new();
    file.take(OCTETS).read_to_end(&mut octets)?;
    let text = String::from_utf8_lossy(&octets);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let words = lines[lines.len().saturating_sub(LINES)..].concat();
    Ok(Some(words).filter(|words| !words.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_counts() {
        let log = std::env::temp_dir().join(format!("podway-words-{}", std::process::id()));
        let (many, long) = ("a\n".repeat(100), "x".repeat(3000));
        for (said, expected) in [
            ("", None),
            ("DONE", Some("DONE".to_owned())),
            ("1\n2\n", Some("1\n2\n".to_owned())),
            (&many, Some("a\n".repeat(80))),
            (&long, Some("x".repeat(2048))),
        ] {
            std::fs::write(&log, said).unwrap();
            assert_eq!(last_words(&log).unwrap(), expected);
        }
        std::fs::remove_file(&log).unwrap();
        assert_eq!(last_words(&log).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

//! Models in several files, `NAME-00001-of-00003.gguf`, as llama.cpp's `gguf-split` writes them: the first has the metadata,
//! each has a part of the tensors.

use std::path::{Path, PathBuf};

/// Most parts of a model.
const MOST_PARTS: usize = 1000;

/// What the name of a part says: what stands before its number, its number from 1, and how many there are.
fn named(path: &Path) -> Option<(String, usize, usize)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    let (number, count) = (digits(number)?, digits(count)?);
    (1..=count).contains(&number).then(|| (name.to_string(), number, count))
}

/// All parts of the model that `path` is a part of, by their names, in order; `path` alone where its name says nothing of
/// parts.
pub(crate) fn parts(path: &Path) -> Vec<PathBuf> {
    match named(path) {
        Some((name, _, count)) if count <= MOST_PARTS => {
            (1..=count).map(|number| path.with_file_name(format!("{name}-{number:05}-of-{count:05}.gguf"))).collect()
        }
        _ => vec![path.to_path_buf()],
    }
}

/// Checks what the parts say of themselves against their names. `said`: `split.no` (from 0), `split.count` and the number
/// of tensors, of each part in order.
///
/// # Errors
/// The number of the part that is wrong, and why.
pub(super) fn check(paths: &[PathBuf], said: &[(Option<usize>, Option<usize>)]) -> Result<(), (usize, String)> {
    for (place, (number, count)) in said.iter().enumerate() {
        let total = count.unwrap_or(1);
        if paths.len() == 1 && total > 1 {
            let number = number.unwrap_or(0) + 1;
            let reason = format!(
                "is part {number} of {total} of a model, and its name does not say so: parts are named \
                 NAME-{number:05}-of-{total:05}.gguf"
            );
            return Err((place, reason));
        }
        if paths.len() > 1 && total != paths.len() {
            let reason = format!("its name says that the model has {} parts, its metadata says {total}", paths.len());
            return Err((place, reason));
        }
        if paths.len() > 1 && *number != Some(place) {
            let inside = number.map_or("no part".to_string(), |number| format!("part {}", number + 1));
            return Err((place, format!("its name says part {}, its metadata says {inside}", place + 1)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_names_all_parts() {
        let all = parts(Path::new("/m/qwen-00002-of-00003.gguf"));
        let names: Vec<&str> = all.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["/m/qwen-00001-of-00003.gguf", "/m/qwen-00002-of-00003.gguf", "/m/qwen-00003-of-00003.gguf"]
        );
        for alone in ["/m/qwen.gguf", "/m/qwen-1-of-3.gguf", "/m/a-00004-of-00003.gguf", "/m/a-00000-of-00003.gguf"] {
            assert_eq!(parts(Path::new(alone)), [PathBuf::from(alone)]);
        }
    }

    #[test]
    fn parts_that_contradict_their_names_are_refused() {
        let paths = parts(Path::new("a-00001-of-00002.gguf"));
        assert_eq!(check(&paths, &[(Some(0), Some(2)), (Some(1), Some(2))]), Ok(()));
        assert!(check(&paths, &[(Some(1), Some(2)), (Some(0), Some(2))]).unwrap_err().1.contains("says part 2"));
        assert!(check(&paths, &[(Some(0), Some(3)), (Some(1), Some(3))]).unwrap_err().1.contains("metadata says 3"));
        assert!(check(&paths, &[(Some(0), Some(2)), (None, None)]).unwrap_err().1.contains("metadata says 1"));
        let alone = [PathBuf::from("renamed.gguf")];
        assert!(check(&alone, &[(Some(0), Some(2))]).unwrap_err().1.contains("NAME-00001-of-00002.gguf"));
        assert_eq!(check(&alone, &[(None, None)]), Ok(()));
    }
}

//! Names that could have been meant for one that is not there.

/// The maximum number of suggested names.
const SUGGESTIONS: usize = 3;

/// The minimum similarity of a suggestion, from 0 to 1.
const ALIKE: f64 = 0.8;

/// `did you mean x, y or z?`, or nothing.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let alike = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let mut alike: Vec<_> = alike.filter(|(alike, _)| *alike >= ALIKE).collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let names: Vec<_> = alike.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => format!("did you mean {only}?"),
        Some((last, others)) => format!("did you mean {} or {last}?", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_few() {
        let names = ["builder", "tester", "builder-base", "debian12-base", "builder-test", "builder-x"];
        assert_eq!(nearest("bulder", names), "did you mean builder, builder-x or builder-base?");
        assert_eq!(nearest("testr", names), "did you mean tester?");
        assert_eq!(nearest("zzz", names), "");
    }
}

//! Templates in the strings of a task graph: `{{#task_id_for_image}}NAME{{/task_id_for_image}}` and
//! `{{#docker_image}}NAME{{/docker_image}}`, with two braces or one. `fill` replaces them.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::UseKind;
use super::error::{TemplateError, quoted};
use crate::context::ImageName;

/// The words that begin and end templates.
const WORDS: [(&str, UseKind); 2] = [("task_id_for_image", UseKind::TaskId), ("docker_image", UseKind::Reference)];

/// Anything that looks like the beginning or the end of a section, ours or another program's: mustache allows spaces inside its
/// braces. None of our words, however mistyped, is longer than 48 characters.
static TAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(\{\{\s*|\{)([#/])\s*([0-9A-Za-z_ .\-[^\x00-\x7F]]{1,48}?)\s*(\}\}?)")
        .expect("a constant, covered by every test below")
});

/// A part of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Left as it is.
    Text(&'t str),
    /// A template.
    Image(UseKind, ImageName),
}

/// The parts of a string that has templates; `None` for one that has none.
pub(super) fn pieces(text: &str) -> Result<Option<Vec<Piece<'_>>>, TemplateError> {
    // Most texts are none, and the search for tags takes ten times as long to say so.
    if !text.contains('{') {
        return Ok(None);
    }
    let mut pieces = Vec::new();
    let mut done = 0;
    let mut opening: Option<Tag<'_>> = None;
    for tag in tags(text) {
        let tag = tag?;
        match (opening.take(), tag.opens) {
            (None, true) => {
                push_text(&mut pieces, &text[done..tag.range.start]);
                opening = Some(tag);
            }
            (None, false) => return Err(TemplateError::Unopened { closing: tag.text(text), opening: tag.partner() }),
            (Some(outer), true) => {
                return Err(TemplateError::Nested { outer: outer.text(text), inner: tag.text(text) });
            }
            (Some(open), false) if open.word != tag.word || open.braces != tag.braces => {
                let expected = open.partner();
                return Err(TemplateError::Mismatched { opening: open.text(text), closing: tag.text(text), expected });
            }
            (Some(open), false) => {
                let name = text[open.range.end..tag.range.start].trim();
                if name.is_empty() {
                    return Err(TemplateError::NoName { opening: open.text(text) });
                }
                let name = name.parse().map_err(|problem| TemplateError::Name { opening: open.text(text), problem })?;
                pieces.push(Piece::Image(tag.kind, name));
                done = tag.range.end;
            }
        }
    }
    if let Some(open) = opening {
        return Err(TemplateError::Unclosed { opening: open.text(text), closing: open.partner() });
    }
    push_text(&mut pieces, &text[done..]);
    Ok(pieces.iter().any(|piece| matches!(piece, Piece::Image(..))).then_some(pieces))
}

fn push_text<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

/// The beginning or the end of a template.
#[derive(Clone, Debug)]
struct Tag<'t> {
    range: Range<usize>,
    braces: usize,
    opens: bool,
    word: &'t str,
    kind: UseKind,
}

impl Tag<'_> {
    fn text(&self, whole: &str) -> String {
        quoted(&whole[self.range.clone()])
    }

    /// The tag that belongs to this one.
    fn partner(&self) -> String {
        let sigil = if self.opens { '/' } else { '#' };
        format!("{}{sigil}{}{}", "{".repeat(self.braces), self.word, "}".repeat(self.braces))
    }
}

/// The tags that are ours, in order; mistyped ones are errors, and other programs' are passed over.
fn tags(text: &str) -> impl Iterator<Item = Result<Tag<'_>, TemplateError>> {
    TAG.captures_iter(text).filter_map(move |found| {
        let (_, [left, sigil, word, right]) = found.extract();
        let whole = found.get_match();
        let braces = left.trim_end().len();
        // `${#name}` is the length of a shell variable.
        if braces == 1 && text[..whole.start()].ends_with('$') {
            return None;
        }
        let (nearest, kind) = known(word)?;
        let quote = || quoted(whole.as_str());
        Some(if nearest != word {
            Err(TemplateError::Typo { found: quote(), nearest })
        } else if right.len() < braces {
            Err(TemplateError::Unbalanced { tag: quote() })
        } else {
            // With one brace on the left, a second one on the right is the text's.
            let range = whole.start()..whole.end() - right.len() + braces;
            Ok(Tag { range, braces, opens: sigil == "#", word: nearest, kind })
        })
    })
}

/// The intended word, if there is one.
fn known(word: &str) -> Option<(&'static str, UseKind)> {
    if let Some(exactly) = WORDS.into_iter().find(|(known, _)| *known == word) {
        return Some(exactly);
    }
    let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let plain: String = word.trim().to_lowercase().chars().map(plain).collect();
    // Up to five wrong characters count as a typo: `dokcer_image`, `taskid_for_images`; not `docker_image_id`, which is another
    // word.
    let near = |known: &str| strsim::osa_distance(&plain, known) <= known.len() / 5;
    WORDS.into_iter().find(|(known, _)| near(known))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(kind: UseKind, name: &str) -> Piece<'static> {
        Piece::Image(kind, name.parse().unwrap())
    }

    #[test]
    fn templates_have_two_braces_or_one() {
        use Piece::Text;
        let id = |name| image(UseKind::TaskId, name);
        let reference = |name| image(UseKind::Reference, name);
        let examples: [(&str, &[Piece<'_>]); 10] = [
            ("{{#task_id_for_image}}builder{{/task_id_for_image}}", &[id("builder")]),
            ("{#task_id_for_image}builder{/task_id_for_image}", &[id("builder")]),
            ("{{#docker_image}} gcc-4.4\n{{/docker_image}}", &[reference("gcc-4.4")]),
            ("a {#docker_image}b{/docker_image} c", &[Text("a "), reference("b"), Text(" c")]),
            ("{{ # docker_image }}b{{ / docker_image }}", &[reference("b")]),
            (
                "{#docker_image}a{/docker_image}{{#task_id_for_image}}b{{/task_id_for_image}}",
                &[reference("a"), id("b")],
            ),
            // Braces around a template are the text's: YAML's and JSON's flow style.
            ("{image: {#docker_image}b{/docker_image}}", &[Text("{image: "), reference("b"), Text("}")]),
            ("{\"i\":{{{#docker_image}}b{{/docker_image}}}}", &[Text("{\"i\":{"), reference("b"), Text("}}")]),
            ("${{#docker_image}}b{{/docker_image}}", &[Text("$"), reference("b")]),
            ("ü{{#docker_image}}b{{/docker_image}}ü", &[Text("ü"), reference("b"), Text("ü")]),
        ];
        for (text, expected) in examples {
            assert_eq!(pieces(text).unwrap().unwrap_or_default(), expected, "{text}");
        }
    }

    #[test]
    fn what_others_write_in_braces_is_theirs() {
        for text in [
            "",
            "{}",
            "echo ${#array[@]} ${#docker_image} ${#name} ${/docker_image}",
            "{{other}} {{docker_image}} {{{raw}}} {{#from_now}}1 day{{/from_now}} {{^docker_image}}",
            "{{#docker_image_id}}x{{/docker_image_id}} {{#image}}x{{/image}} {{#if docker_image}}",
            "{# docker_image #} {% docker_image %} {#docker_image {#docker_image,a} a{/bin,/usr/bin} {/dev/null}",
            "${{ github.sha }} {{#docker_image/x}}",
        ] {
            assert_eq!(pieces(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_what_is_there() {
        let examples = [
            ("{{#dokcer_image}}a{{/docker_image}}", "`{{#dokcer_image}}` looks like a mistyped `docker_image`"),
            ("{#docker-image}a{/docker-image}", "`{#docker-image}` looks like"),
            ("{{#docker image}}a", "`{{#docker image}}` looks like"),
            ("{{#TASK_ID_FOR_IMAGE}}a", "looks like a mistyped `task_id_for_image`"),
            ("{{#docker_image}}a{{/docker_images}}", "`{{/docker_images}}` looks like"),
            ("{{#dοcker_image}}a", "looks like a mistyped `docker_image`"),
            (
                "{{#docker_image}a{{/docker_image}}",
                "`{{#docker_image}` has two braces on its left and one on its right",
            ),
            ("a {{#docker_image}} b", "`{{#docker_image}}` is never closed: expected `{{/docker_image}}`"),
            ("{{#docker_image}}a{{/other}}", "`{{#docker_image}}` is never closed"),
            ("{{docker_image}}a{{/docker_image}}", "`{{/docker_image}}` is never opened: expected `{{#docker_image}}`"),
            ("{/task_id_for_image}", "expected `{#task_id_for_image}`"),
            (
                "{{#docker_image}}a{{/task_id_for_image}}",
                "`{{#docker_image}}` is closed by `{{/task_id_for_image}}`, not by `{{/docker_image}}`",
            ),
            ("{{#docker_image}}a{/docker_image}", "is closed by `{/docker_image}`, not by `{{/docker_image}}`"),
            ("{#docker_image}a{{/docker_image}}", "is closed by `{{/docker_image}}`, not by `{/docker_image}`"),
            ("{{#docker_image}}{{#task_id_for_image}}a", "`{{#task_id_for_image}}` begins inside `{{#docker_image}}`"),
            ("{{#docker_image}} {{/docker_image}}", "`{{#docker_image}}` has no name of an image"),
            ("{{#docker_image}}{{a}}{{/docker_image}}", "`{{#docker_image}}`: \"{{a}}\" is not an image name"),
            ("{{#docker_image}}A{{/docker_image}}", "\"A\" is not an image name"),
            ("{{#docker_image}}}a{{/docker_image}}", "\"}a\" is not an image name"),
        ];
        for (text, expected) in examples {
            let error = pieces(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn looking_for_tags_takes_time_in_proportion() {
        // Quadratic, these would take minutes.
        for part in ["{", "{{#", "{{# ", "{{#docker_image", "{{#docker_image}}a{{/docker_image}}"] {
            let text = part.repeat(200_000);
            let found = pieces(&text).map(|pieces| pieces.map_or(0, |pieces| pieces.len()));
            assert!(matches!(found, Ok(0 | 200_000)), "{part}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_looks_like_a_template_panics(text in "([{}#/$ <>]|docker_image|task_id_for_image|e|ü|\n){0,20}") {
            if let Ok(Some(pieces)) = pieces(&text) {
                let image = |piece: &Piece<'_>| matches!(piece, Piece::Image(..));
                prop_assert!(pieces.iter().any(image));
                prop_assert!(pieces.iter().all(|piece| *piece != Piece::Text("")));
            }
        }

        #[test]
        fn texts_around_templates_stay(before in "[^{}]*", between in "[^{}]*", after in "[^{}]*") {
            // `$` before a single brace belongs to the shell.
            prop_assume!(!before.ends_with('$'));
            let text = format!(
                "{before}{{#docker_image}}a{{/docker_image}}{between}{{{{#task_id_for_image}}}}b{{{{/task_id_for_image}}}}{after}"
            );
            let found = pieces(&text).unwrap().unwrap();
            let kept: Vec<_> = found.iter().filter_map(|piece| match piece {
                Piece::Text(text) => Some(*text),
                Piece::Image(..) => None,
            }).collect();
            prop_assert_eq!(kept.concat(), format!("{before}{between}{after}"));
            prop_assert_eq!(found.len() - kept.len(), 2);
        }
    }
}

//! Fenced code, found by lines. A fence may stand at any indentation (site builders nest them in tabs, steps and list
//! items), also right after a list or quote marker. Its bytes are taken as they are, without the fence's indentation.

use super::mark;

/// A fenced code block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Code {
    pub language: String,
    /// Without the last line break.
    pub text: String,
    /// 1-based line of the opening fence.
    pub line: usize,
}

struct Opening<'a> {
    /// What stands before the fence: indentation, list and quote markers.
    prefix: &'a str,
    quotes: usize,
    fence: char,
    length: usize,
    info: &'a str,
}

/// Reads a line as an opening fence.
fn opening(line: &str) -> Option<Opening<'_>> {
    let mut rest = line;
    let mut quotes = 0;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let first = rest.chars().next()?;
        match first {
            '`' | '~' => break,
            '>' => {
                quotes += 1;
                rest = &rest[1..];
            }
            '-' | '*' | '+' if rest[1..].starts_with(' ') => rest = &rest[1..],
            '0'..='9' => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let after = rest[digits..].strip_prefix(['.', ')'])?;
                rest = after.strip_prefix(' ')?;
            }
            _ => return None,
        }
    }
    let fence = rest.chars().next()?;
    let length = rest.chars().take_while(|c| *c == fence).count();
    let info = rest[length..].trim();
    if length < 3 || (fence == '`' && info.contains('`')) {
        return None;
    }
    Some(Opening { prefix: &line[..line.len() - rest.len()], quotes, fence, length, info })
}

impl Opening<'_> {
    fn closes(&self, line: &str) -> bool {
        let line = without_quotes(line, self.quotes).trim();
        line.chars().all(|c| c == self.fence) && line.chars().count() >= self.length
    }

    /// A line of code without the fence's own indentation.
    fn content<'a>(&self, line: &'a str) -> &'a str {
        let mut rest = without_quotes(line, self.quotes);
        let inner = without_quotes(self.prefix, self.quotes);
        let mut left = inner.chars().map(|c| if c == '\t' { 4 } else { 1 }).sum::<usize>();
        while left > 0 {
            match rest.chars().next() {
                Some(' ') => left -= 1,
                Some('\t') => left = left.saturating_sub(4),
                _ => break,
            }
            rest = &rest[1..];
        }
        rest
    }
}

fn without_quotes(line: &str, quotes: usize) -> &str {
    let mut rest = line;
    for _ in 0..quotes {
        match rest.trim_start_matches([' ', '\t']).strip_prefix('>') {
            Some(after) => rest = after.strip_prefix(' ').unwrap_or(after),
            None => break,
        }
    }
    rest
}

/// All lines: 1-based number, text without line break, and whether it belongs to fenced code (its fences included).
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut open: Option<Opening<'_>> = None;
    text.lines().enumerate().map(move |(at, line)| {
        let in_code = match &open {
            Some(fence) => {
                if fence.closes(line) {
                    open = None;
                }
                true
            }
            None => {
                open = opening(line);
                open.is_some()
            }
        };
        (at + 1, line, in_code)
    })
}

/// False where a fence is opened and never closed.
pub(crate) fn all_close(text: &str) -> bool {
    unclosed_line(text) == 0
}

/// 1-based line of the fence that is never closed; 0 where all are.
pub(crate) fn unclosed_line(text: &str) -> usize {
    let mut open: Option<(usize, Opening<'_>)> = None;
    for (at, line) in text.lines().enumerate() {
        match &open {
            Some((_, fence)) if fence.closes(line) => open = None,
            Some(_) => {}
            None => open = opening(line).map(|fence| (at + 1, fence)),
        }
    }
    open.map_or(0, |(line, _)| line)
}

/// Takes fenced code out. In its place stand a mark (the code's position in the returned list) and blank lines, so
/// that line numbers stay.
pub(super) fn cut(text: &str) -> (String, Vec<Code>) {
    let mut out = String::with_capacity(text.len());
    let mut codes: Vec<Code> = Vec::new();
    let mut open: Option<(Opening<'_>, Vec<&str>, usize)> = None;
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        match &mut open {
            Some((fence, body, _)) if !fence.closes(line) => body.push(fence.content(line)),
            Some(_) => codes.extend(open.take().map(finish)),
            None => match opening(line) {
                Some(fence) => {
                    out.push_str(fence.prefix);
                    out.push_str(&mark(codes.len()));
                    open = Some((fence, Vec::new(), at + 1));
                }
                None => out.push_str(&super::clean(line.trim_end_matches('\r'))),
            },
        }
    }
    codes.extend(open.map(finish));
    (out, codes)
}

fn finish((fence, body, line): (Opening<'_>, Vec<&str>, usize)) -> Code {
    // ```js title="x"  and  ```{js}  both mean js.
    let language = fence.info.trim_start_matches('{').split([' ', '{', '}', ',', '\t']).next().unwrap_or_default();
    let text = body.join("\n");
    let text = text.strip_suffix('\r').unwrap_or(&text).to_string();
    Code { language: language.to_string(), text, line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<(String, String)> {
        cut(text).1.into_iter().map(|code| (code.language, code.text)).collect()
    }

    #[test]
    fn code_is_taken_byte_for_byte_without_the_fences_indentation() {
        let text = "- JS\n\n    ```js\n    a  {\n      b\n\n    }\n    ```\n";
        assert_eq!(codes(text), [("js".into(), "a  {\n  b\n\n}".into())]);
        assert_eq!(codes("> ```\n> x\n>   y\n> ```"), [("".into(), "x\n  y".into())]);
        assert_eq!(codes("1. ```sh\n   ls\n   ```"), [("sh".into(), "ls".into())]);
    }

    #[test]
    fn a_longer_fence_holds_a_shorter_one() {
        let text = "````md\n```js\nx\n```\n````\n";
        assert_eq!(codes(text), [("md".into(), "```js\nx\n```".into())]);
        assert_eq!(codes("~~~\n```\n~~~"), [("".into(), "```".into())]);
    }

    #[test]
    fn an_unclosed_fence_is_noticed_and_reaches_to_the_end() {
        assert_eq!(unclosed_line("a\n```\nb\n"), 2);
        assert_eq!(codes("```\nb\n"), [("".into(), "b\n".into())]);
        assert!(all_close("```\na\n```\n"));
    }

    #[test]
    fn line_numbers_stay_and_inline_code_is_no_fence() {
        let (text, codes) = cut("a\n```x\n1\n2\n```\nb ```c``` d\n");
        assert_eq!(text.lines().count(), 6);
        assert_eq!(text.lines().nth(5), Some("b ```c``` d"));
        assert_eq!(codes[0].line, 2);
    }
}

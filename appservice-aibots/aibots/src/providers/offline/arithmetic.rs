//! Sums out of a sentence: `what is 3 + 4 * (2 - 1)?`

/// The longest sum. What is longer is no chat.
const SUM_CHARS_MAX: usize = 100;
/// How deep parentheses may stand in each other.
const DEPTH_MAX: usize = 16;

/// The sum in the text and its result, if there is one.
pub(super) fn sum_in(text: &str) -> Option<(String, String)> {
    let is_sign = |c: char| c.is_ascii_digit() || "+-*/().^ \u{d7}\u{f7}".contains(c);
    let sum =
        text.split(|c| !is_sign(c)).map(|part| part.trim_matches(|c: char| c == ' ' || c == '.')).find(|part| {
            part.contains(|c: char| "+-*/^\u{d7}\u{f7}".contains(c)) && part.contains(|c: char| c.is_ascii_digit())
        })?;
    if sum.chars().count() > SUM_CHARS_MAX {
        return None;
    }
    let signs: Vec<char> = sum.chars().filter(|c| *c != ' ').collect();
    let mut reader = Reader { signs: &signs, at: 0, depth: 0, operations: 0 };
    let result = reader.sum()?;
    let is_sum = reader.at == signs.len() && reader.operations > 0 && result.is_finite();
    is_sum.then(|| (sum.to_owned(), show(result)))
}

fn show(number: f64) -> String {
    let rounded = (number * 1e6).round() / 1e6;
    if number.abs() < 1e15 && rounded.is_finite() { format!("{}", rounded + 0.0) } else { format!("{number:e}") }
}

struct Reader<'a> {
    signs: &'a [char],
    at: usize,
    depth: usize,
    operations: usize,
}

impl Reader<'_> {
    fn take(&mut self, wanted: &[char]) -> Option<char> {
        let sign = self.signs.get(self.at).copied().filter(|sign| wanted.contains(sign))?;
        self.at += 1;
        Some(sign)
    }

    fn sum(&mut self) -> Option<f64> {
        let mut total = self.product()?;
        while let Some(sign) = self.take(&['+', '-']) {
            self.operations += 1;
            let next = self.product()?;
            total = if sign == '+' { total + next } else { total - next };
        }
        Some(total)
    }

    fn product(&mut self) -> Option<f64> {
        let mut total = self.power()?;
        while let Some(sign) = self.take(&['*', '/', '\u{d7}', '\u{f7}']) {
            self.operations += 1;
            let next = self.power()?;
            total = if matches!(sign, '*' | '\u{d7}') { total * next } else { total / next };
        }
        Some(total)
    }

    fn power(&mut self) -> Option<f64> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let base = self.number()?;
        let result = match self.take(&['^']) {
            Some(_) => {
                self.operations += 1;
                base.powf(self.power()?)
            }
            None => base,
        };
        self.depth -= 1;
        Some(result)
    }

    fn number(&mut self) -> Option<f64> {
        if self.take(&['-']).is_some() {
            return self.power().map(|number| -number);
        }
        if self.take(&['(']).is_some() {
            let inner = self.sum()?;
            self.take(&[')'])?;
            return Some(inner);
        }
        let rest = self.signs.get(self.at..)?;
        let digits: String = rest.iter().take_while(|sign| sign.is_ascii_digit() || **sign == '.').collect();
        self.at += digits.len();
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::sum_in;

    #[test]
    fn sums_and_what_is_none() {
        let result = |text: &str| sum_in(text).map(|(_, result)| result);
        let is = |text: &str, expected: &str| assert_eq!(result(text).as_deref(), Some(expected), "{text}");
        is("what is 3 + 4 * (2 - 1)?", "7");
        is("2^3^2", "512");
        is("-2 + 5, please.", "3");
        is("1 / 8", "0.125");
        is("0.1 + 0.2", "0.3");
        is("7 \u{d7} 6", "42");
        is("2^50", "1.125899906842624e15");
        for none in ["hello", "in 2026", "1 / 0", "3 +", "(1 + 2", "-", "call 555-", "...", "9^9^9^9"] {
            assert_eq!(result(none), None, "{none}");
        }
        assert_eq!(result(&"(".repeat(50)), None);
        assert_eq!(result(&format!("{}1", "-".repeat(80))), None, "no depth without end");
        assert_eq!(result(&"1+".repeat(500)), None);
    }
}

//! Exact chances.

use std::fmt;

/// A fraction in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probability {
    pub numerator: u128,
    pub denominator: u128,
}

impl Probability {
    pub const NEVER: Self = Probability { numerator: 0, denominator: 1 };
    pub const CERTAIN: Self = Probability { numerator: 1, denominator: 1 };

    /// One of `n` that are equally likely; of none: never.
    pub fn one_of(n: usize) -> Self {
        if n == 0 { Self::NEVER } else { Probability { numerator: 1, denominator: n as u128 } }
    }

    /// Both of two independent events.
    pub fn and(self, other: Self) -> Self {
        reduced(self.numerator * other.numerator, self.denominator * other.denominator)
    }

    /// Either of two events that exclude each other.
    pub fn or(self, other: Self) -> Self {
        reduced(
            self.numerator * other.denominator + other.numerator * self.denominator,
            self.denominator * other.denominator,
        )
    }

    /// That it does not happen.
    pub fn complement(self) -> Self {
        reduced(self.denominator - self.numerator, self.denominator)
    }

    pub fn is_certain(self) -> bool {
        self == Self::CERTAIN
    }

    #[expect(clippy::cast_precision_loss, reason = "a number to look at")]
    pub fn as_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    pub fn is_more_likely_than(self, other: Self) -> bool {
        self.numerator * other.denominator > other.numerator * self.denominator
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probability { numerator, denominator: 1 } => write!(f, "{numerator}"),
            _ => write!(f, "{}/{}", self.numerator, self.denominator),
        }
    }
}

fn reduced(numerator: u128, denominator: u128) -> Probability {
    let (mut a, mut b) = (numerator, denominator);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Probability { numerator: numerator / a, denominator: denominator / a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_products_are_exact() {
        let third = Probability::one_of(3);
        let ninth = third.and(third);
        assert_eq!(ninth.to_string(), "1/9");
        assert_eq!(ninth.or(ninth).or(ninth), third);
        assert_eq!(third.complement().to_string(), "2/3");
        assert!(third.or(third.complement()).is_certain());
        assert!(third.is_more_likely_than(ninth) && !ninth.is_more_likely_than(third));
        assert_eq!(Probability::one_of(0), Probability::NEVER);
    }
}

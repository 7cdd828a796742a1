//! When a table is so full that somebody should know.

/// Raised at nine tenths, and again only after it was below eight.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    raised: bool,
}

impl Alarm {
    /// Whether this is the moment to tell.
    pub(super) fn is_raised_by(&mut self, entries: u32, limit: u32) -> bool {
        // A limit of 0 is none.
        let above = |tenths: u64| limit > 0 && u64::from(entries) * 10 >= u64::from(limit) * tenths;
        let before = self.raised;
        self.raised = if before { above(8) } else { above(9) };
        self.raised && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_until_there_is_room_again() {
        let mut alarm = Alarm::default();
        let rows = [
            (0, false),
            (89, false),
            (90, true),
            (100, false),
            (85, false),
            (79, false),
            (95, true),
        ];
        for (entries, told) in rows {
            assert_eq!(alarm.is_raised_by(entries, 100), told, "{entries} of 100");
        }
        assert!(!Alarm::default().is_raised_by(5, 0), "a table without a limit is never full");
    }
}

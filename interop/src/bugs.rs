//! Bugs on purpose: each is a mistake that a compiler of rules makes easily, put in front of ours, so that what it
//! compiles is what a compiler with that mistake would have made of the rules. The product has no switch for it.

use crate::model::{Action, Percent, Rule, Table, Text};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// `ignoreUriCase` is not looked at.
    CaseCounts,
    /// The empty `exact` of a header or parameter is taken for "not given": presence.
    EmptyIsPresence,
    /// In `withoutHeaders` a header that is missing does not count as an empty one: a regex becomes a presence.
    MissingIsNotEmpty,
    /// The intervals of weights are closed: each begins one too late.
    WeightsAreClosed,
    /// A fault without a percentage is for everybody.
    FaultForAll,
    /// Status codes in `retryOn` are dropped.
    CodesAreNoWords,
    /// A removal of a header that the same level sets comes last.
    RemoveLast,
    /// Of two entries of one rule only the first counts.
    FirstEntryOnly,
    /// A delegate inherits nothing from its root.
    NothingIsInherited,
    /// A mirror without a percentage gets nothing.
    MirrorsOfNobody,
    /// A mirror at 0 % gets everything.
    MirrorsOfAll,
    /// A redirect's `prefixRewrite` takes the place of the whole path.
    PrefixIsPath,
    /// Of two VirtualServices with the same host the last keeps it.
    LastHostWins,
    /// The `gateways` of a match entry are not looked at.
    GatewaysAreIgnored,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::CaseCounts,
        Self::EmptyIsPresence,
        Self::MissingIsNotEmpty,
        Self::WeightsAreClosed,
        Self::FaultForAll,
        Self::CodesAreNoWords,
        Self::RemoveLast,
        Self::FirstEntryOnly,
        Self::NothingIsInherited,
        Self::MirrorsOfNobody,
        Self::MirrorsOfAll,
        Self::PrefixIsPath,
        Self::LastHostWins,
        Self::GatewaysAreIgnored,
    ];

    pub(crate) fn infect(self, table: &mut Table) {
        if self == Self::LastHostWins {
            table.virtual_services.reverse();
        }
        for rule in table.virtual_services.iter_mut().flat_map(|vs| &mut vs.rules) {
            self.infect_rule(rule);
        }
    }

    fn infect_rule(self, rule: &mut Rule) {
        match self {
            Self::CaseCounts => rule.matches.iter_mut().for_each(|entry| entry.ignore_case = false),
            Self::EmptyIsPresence => {
                let conditions =
                    rule.matches.iter_mut().flat_map(|entry| entry.headers.iter_mut().chain(&mut entry.query));
                for (_, value) in
                    conditions.filter(|(_, value)| matches!(value, Text::Exact(exact) if exact.is_empty()))
                {
                    *value = Text::Present;
                }
            }
            Self::MissingIsNotEmpty => {
                let conditions = rule.matches.iter_mut().flat_map(|entry| &mut entry.without);
                for (_, value) in conditions.filter(|(_, value)| matches!(value, Text::Regex(_))) {
                    *value = Text::Present;
                }
            }
            Self::WeightsAreClosed => {
                let Action::Route(destinations) = &mut rule.action else { return };
                let mut weights =
                    destinations.iter_mut().filter_map(|to| to.weight.as_mut()).filter(|weight| **weight > 0);
                if let (Some(first), Some(second)) = (weights.next(), weights.next())
                    && *second > 1
                {
                    *first += 1;
                    *second -= 1;
                }
            }
            Self::FaultForAll => {
                let delay = rule.fault.delay.iter_mut().map(|(_, percent)| percent);
                for percent in delay.chain(rule.fault.abort.iter_mut().map(|(_, percent)| percent)) {
                    percent.get_or_insert(100);
                }
            }
            Self::CodesAreNoWords => {
                if let Some(retries) = &mut rule.retries {
                    retries.on.retain(|word| word.parse::<u16>().is_err() || *word == "5xx");
                }
            }
            Self::RemoveLast => {
                for ops in [&mut rule.headers.request, &mut rule.headers.response] {
                    let removed = ops.remove.clone();
                    let kept = |(name, _): &(String, String)| !removed.contains(name);
                    ops.set.retain(kept);
                    ops.add.retain(kept);
                }
            }
            Self::FirstEntryOnly => rule.matches.truncate(1),
            Self::NothingIsInherited => {
                if let Action::Delegate { .. } = &rule.action {
                    let matches = std::mem::take(&mut rule.matches);
                    *rule = Rule { matches, ..Rule::new(rule.name.clone(), rule.action.clone()) };
                }
            }
            Self::MirrorsOfNobody | Self::MirrorsOfAll => {
                let change = |percent: &mut Percent| match (self, *percent) {
                    (Self::MirrorsOfNobody, None) => *percent = Some(0),
                    (Self::MirrorsOfAll, Some(0)) => *percent = None,
                    _ => {}
                };
                rule.mirrors.iter_mut().for_each(|mirror| change(&mut mirror.percent));
                if rule.mirror.is_some() {
                    change(&mut rule.mirror_percent);
                }
            }
            Self::PrefixIsPath => {
                if let Action::Redirect(redirect) = &mut rule.action
                    && redirect.prefix.is_some()
                {
                    redirect.uri = redirect.prefix.take();
                }
            }
            Self::LastHostWins => {}
            Self::GatewaysAreIgnored => rule.matches.iter_mut().for_each(|entry| entry.gateways.clear()),
        }
    }
}

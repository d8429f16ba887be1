//! What the rules of a run ask of its agents that they cannot do, or do only in part: told before anything starts.

use std::collections::BTreeSet;

use super::agents::Agents;
use crate::agent::{self, Capabilities};
use crate::engine::{Budget, Capacity, Prices, Resources, Settings, Tokens};
use crate::protocol::AgentSetup;
use crate::report::of_machine;

/// An agent of the run.
struct Employed<'a> {
    name: &'a str,
    setup: &'a AgentSetup,
    wants: Resources,
    can: Capabilities,
}

/// The shortfalls of the agents of these names, in a line each.
pub(super) fn shortfalls<'a>(
    names: impl IntoIterator<Item = &'a str>,
    agents: &Agents,
    settings: &Settings,
    prices: &Prices,
) -> Vec<String> {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let employed = names.into_iter().filter_map(|name| {
        let setup = agents.setup(name)?;
        let can = agent::find(&setup.adapter)?.capabilities();
        let wants = agents.resources(name);
        Some(Employed {
            name,
            setup,
            wants,
            can,
        })
    });
    let employed: Vec<Employed<'_>> = employed.collect();
    let those = |falls_short: &dyn Fn(&Employed<'_>) -> bool| {
        let short = employed.iter().filter(|agent| falls_short(agent));
        let names: Vec<String> = short.map(|agent| format!("`{}`", agent.name)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let is_limited = |budget| {
        let limits = [
            settings.story_limits,
            settings.run_limits,
            settings.day_limits,
        ];
        limits.iter().any(|limits| limits.has(budget))
    };
    let mut lines: Vec<String> = employed
        .iter()
        .filter(|agent| agent.setup.most_requests.is_some() && !agent.can.limits_requests)
        .map(|agent| {
            let (name, adapter) = (agent.name, &agent.setup.adapter);
            format!(
                "`agents.{name}.mostRequests` does nothing: {} can be told a limit of requests, `{adapter}` cannot",
                who_limits_requests()
            )
        })
        .collect();
    if is_limited(Budget::Turns) {
        lines.extend(those(&|agent| !agent.can.tells.requests).map(|names| {
            format!(
                "the budget of turns stops {names} only between two prompts: their requests to the model are told when one is \
                 answered, if at all"
            )
        }));
    }
    if is_limited(Budget::Cost) {
        lines.extend(those(&|agent| !has_cost(agent, prices)).map(|names| {
            format!(
                "the cost budget does not hold {names}: what they cost is not told, and `prices` in .ai-sdlc.json has no \
                 price of their model"
            )
        }));
    }
    lines.extend(
        employed
            .iter()
            .filter_map(|agent| greed(agent, &settings.capacity)),
    );
    lines
}

/// What an agent wants more of than all of them may have together.
fn greed(agent: &Employed<'_>, capacity: &Capacity) -> Option<String> {
    let lack = capacity.lacks(Resources::default(), agent.wants)?;
    let number = |number| of_machine(lack.resource, number);
    Some(format!(
        "the agent `{}` wants {}: {}, and agents have {} together: no other runs beside it",
        agent.name,
        lack.resource,
        number(lack.wanted),
        number(lack.capacity)
    ))
}

/// Whether it is known what an agent costs, as far as that can be said before its model is.
fn has_cost(agent: &Employed<'_>, prices: &Prices) -> bool {
    let tells = agent.can.tells;
    let priced = |model: &String| prices.cost(model, Tokens::default()).is_some();
    let by_price = if tells.model {
        !prices.is_empty()
    } else {
        agent.setup.model.as_ref().is_some_and(priced)
    };
    tells.cost || by_price
}

/// The adapters that can be told how many requests a turn may have.
fn who_limits_requests() -> String {
    let can =
        |name: &&&str| agent::find(name).is_some_and(|agent| agent.capabilities().limits_requests);
    let names: Vec<String> = agent::NAMES
        .iter()
        .filter(can)
        .map(|name| format!("`{name}`"))
        .collect();
    names.join(" and ")
}

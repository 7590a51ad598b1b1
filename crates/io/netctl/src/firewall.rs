//! Other people's firewalls that drop what a server forwards.
//!
//! A packet has to be accepted by every table; ours cannot overrule another's drop. So the drop is named, with the command that
//! opens the way, and nothing of it is touched.

use std::fmt;

use serde_json::Value;

use crate::nft;

/// A chain that drops forwarded packets of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallWarning {
    /// The family and the name of its table, such as `ip filter`.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Who probably made it.
    pub owner: Option<&'static str>,
    /// The commands that let the tunnel's packets pass.
    pub remedy: Vec<String>,
}

impl fmt::Display for FirewallWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the firewall drops forwarded packets: table `{}`, chain `{}`", self.table, self.chain)?;
        if let Some(owner) = self.owner {
            write!(f, " (made by {owner})")?;
        }
        write!(
            f,
            "\n  clients will reach this server but nothing behind it; to let them through: {}",
            self.remedy.join(" && ")
        )
    }
}

/// The chains that drop the tunnel's forwarded packets. Empty where none does, or where `nft` is missing or not allowed.
///
/// Only what is certain is told: a policy of drop, or a final rule without conditions that drops or rejects,
/// in a chain that has no accepting rule that names the tunnel.
pub fn foreign_firewalls(tunnel: &str) -> Vec<FirewallWarning> {
    nft::ruleset().map(|ruleset| examine(&ruleset, tunnel)).unwrap_or_default()
}

fn examine(ruleset: &Value, tunnel: &str) -> Vec<FirewallWarning> {
    let Some(objects) = ruleset["nftables"].as_array() else { return Vec::new() };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut warnings = Vec::new();
    for chain in objects.iter().map(|object| &object["chain"]) {
        let family = text(&chain["family"]);
        if chain["hook"] != "forward"
            || chain["type"] != "filter"
            || !matches!(&*family, "ip" | "ip6" | "inet")
        {
            continue;
        }
        let rules: Vec<&Value> = objects
            .iter()
            .map(|object| &object["rule"])
            .filter(|rule| {
                rule["family"] == chain["family"]
                    && rule["table"] == chain["table"]
                    && (rule["chain"] == chain["name"] || is_user_chain(rule))
            })
            .collect();
        let own: Vec<&&Value> = rules.iter().filter(|rule| rule["chain"] == chain["name"]).collect();
        let drops = chain["policy"] == "drop" || own.last().is_some_and(|rule| drops_all(rule));
        if !drops || rules.iter().any(|rule| accepts(rule, tunnel)) {
            continue;
        }
        let (table, name) = (text(&chain["table"]), text(&chain["name"]));
        let owner = owner_of(objects, &chain["family"], &chain["table"], &table);
        warnings.push(FirewallWarning {
            remedy: remedy(owner, &family, &table, &name, tunnel),
            table: format!("{family} {table}"),
            chain: name,
            owner,
        });
    }
    warnings
}

/// Chains where the makers of firewalls keep their users' rules.
fn is_user_chain(rule: &Value) -> bool {
    matches!(rule["chain"].as_str(), Some("DOCKER-USER" | "ufw-user-forward" | "ufw6-user-forward"))
}

fn drops_all(rule: &Value) -> bool {
    let Some(expressions) = rule["expr"].as_array() else { return false };
    let mut verdict = false;
    for expression in expressions {
        if expression.get("drop").is_some() || expression.get("reject").is_some() {
            verdict = true;
        } else if expression.get("counter").is_none() && expression.get("log").is_none() {
            return false;
        }
    }
    verdict
}

fn accepts(rule: &Value, tunnel: &str) -> bool {
    let Some(expressions) = rule["expr"].as_array() else { return false };
    let names_it = expressions.iter().any(|expression| {
        let right = expression["match"]["right"].as_str().unwrap_or_default();
        right == tunnel || right.strip_suffix('*').is_some_and(|prefix| tunnel.starts_with(prefix))
    });
    names_it && expressions.iter().any(|expression| expression.get("accept").is_some())
}

fn owner_of(objects: &[Value], family: &Value, table: &Value, name: &str) -> Option<&'static str> {
    if name == "firewalld" {
        return Some("firewalld");
    }
    let has = |prefix: &str| {
        objects.iter().map(|object| &object["chain"]).any(|chain| {
            chain["family"] == *family
                && chain["table"] == *table
                && chain["name"].as_str().is_some_and(|name| name.starts_with(prefix))
        })
    };
    // Both often share one table; Docker's chain for the user comes before ufw's rules.
    if has("DOCKER") {
        Some("Docker")
    } else if has("ufw") {
        Some("ufw")
    } else {
        None
    }
}

fn remedy(owner: Option<&str>, family: &str, table: &str, chain: &str, tunnel: &str) -> Vec<String> {
    let iptables = if family == "ip6" { "ip6tables" } else { "iptables" };
    match owner {
        Some("Docker") => vec![
            format!("{iptables} -I DOCKER-USER -i {tunnel} -j ACCEPT"),
            format!("{iptables} -I DOCKER-USER -o {tunnel} -j ACCEPT"),
        ],
        Some("ufw") => {
            vec![format!("ufw route allow in on {tunnel}"), format!("ufw route allow out on {tunnel}")]
        }
        Some("firewalld") => vec![format!("firewall-cmd --zone=trusted --add-interface={tunnel}")],
        _ => vec![
            format!("nft insert rule {family} {table} {chain} iifname {tunnel} accept"),
            format!("nft insert rule {family} {table} {chain} oifname {tunnel} accept"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(chain: &str, rules: &str) -> Value {
        let text = format!(
            r#"{{"nftables":[{{"metainfo":{{}}}},{{"table":{{"family":"ip","name":"filter"}}}},
            {{"chain":{{"family":"ip","table":"filter","name":"DOCKER-USER"}}}},{chain}{rules}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const DROPPING: &str = r#"{"chain":{"family":"ip","table":"filter","name":"FORWARD","type":"filter","hook":"forward","prio":0,"policy":"drop"}}"#;
    const ACCEPTING: &str = r#"{"chain":{"family":"ip","table":"filter","name":"FORWARD","type":"filter","hook":"forward","prio":0,"policy":"accept"}}"#;

    #[test]
    fn dockers_policy_is_named_with_its_remedy() {
        let warnings = examine(&ruleset(DROPPING, ""), "bw0");
        assert_eq!(warnings.len(), 1);
        let text = warnings[0].to_string();
        assert!(
            text.contains("`ip filter`") && text.contains("`FORWARD`") && text.contains("Docker"),
            "{text}"
        );
        assert!(text.contains("iptables -I DOCKER-USER -i bw0 -j ACCEPT"), "{text}");
    }

    #[test]
    fn an_open_way_is_no_warning() {
        assert!(examine(&ruleset(ACCEPTING, ""), "bw0").is_empty());
        let rule = r#",{"rule":{"family":"ip","table":"filter","chain":"DOCKER-USER","expr":[
            {"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"bw*"}},{"counter":{}},{"accept":null}]}}"#;
        assert!(examine(&ruleset(DROPPING, rule), "bw0").is_empty());
    }

    #[test]
    fn a_final_reject_counts_as_a_drop() {
        let rule = r#",{"rule":{"family":"ip","table":"filter","chain":"FORWARD","expr":[{"counter":{}},{"reject":null}]}}"#;
        assert_eq!(examine(&ruleset(ACCEPTING, rule), "bw0").len(), 1);
    }
}

/// The scenarios that come with bondwire: name and text.
pub const BUILTIN: [(&str, &str); 8] = [
    ("twin", include_str!("../profiles/twin.toml")),
    ("home", include_str!("../profiles/home.toml")),
    ("road", include_str!("../profiles/road.toml")),
    ("geo", include_str!("../profiles/geo.toml")),
    ("event", include_str!("../profiles/event.toml")),
    ("skew", include_str!("../profiles/skew.toml")),
    ("poison", include_str!("../profiles/poison.toml")),
    ("demo", include_str!("../profiles/demo.toml")),
];

/// The names of the profiles by which the project's targets are measured.
pub const PUBLIC_PROFILES: [&str; 7] = ["twin", "home", "road", "geo", "event", "skew", "poison"];

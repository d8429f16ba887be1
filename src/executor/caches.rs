//! Where build tools keep what they have downloaded or built, for use in other folders.
//!
//! Only what can be had again: settings, keys, programs that other people call and what tells where those are do not
//! belong to it.

use crate::agent::Place;

/// The caches of one tool.
pub(super) struct Cache {
    /// The program by whose presence its folders are made where they are missing; none for those that are made anyway.
    pub(super) tool: Option<&'static str>,
    /// Where they are.
    pub(super) places: &'static [Place],
}

const fn of(tool: &'static str, places: &'static [Place]) -> Cache {
    Cache {
        tool: Some(tool),
        places,
    }
}

/// The caches that agents may write to. The first holds those of many tools (pip, Yarn, Go, Poetry, Playwright, …)
/// wherever they follow the conventions of their platform.
pub(super) const CACHES: &[Cache] = &[
    Cache {
        tool: None,
        places: &[Place::folder(&[("XDG_CACHE_HOME", "")], ".cache")],
    },
    of(
        "cargo",
        &[
            Place::folder(&[("CARGO_HOME", "registry")], ".cargo/registry"),
            Place::folder(&[("CARGO_HOME", "git")], ".cargo/git"),
            Place::file(&[("CARGO_HOME", ".package-cache")], ".cargo/.package-cache"),
            Place::file(
                &[("CARGO_HOME", ".package-cache-mutate")],
                ".cargo/.package-cache-mutate",
            ),
            Place::file(&[("CARGO_HOME", ".global-cache")], ".cargo/.global-cache"),
            Place::folder(&[("CARGO_TARGET_DIR", "")], ""),
        ],
    ),
    of("sccache", &[Place::folder(&[("SCCACHE_DIR", "")], "")]),
    of("ccache", &[Place::folder(&[("CCACHE_DIR", "")], "")]),
    of(
        "npm",
        &[Place::folder(
            &[("npm_config_cache", ""), ("NPM_CONFIG_CACHE", "")],
            ".npm",
        )],
    ),
    of(
        "pnpm",
        &[
            Place::folder(
                &[("XDG_DATA_HOME", "pnpm/store"), ("PNPM_HOME", "store")],
                ".local/share/pnpm/store",
            ),
            Place::folder(&[("XDG_STATE_HOME", "pnpm")], ".local/state/pnpm"),
        ],
    ),
    of(
        "yarn",
        &[
            Place::folder(&[("YARN_CACHE_FOLDER", "")], ""),
            Place::folder(&[("YARN_GLOBAL_FOLDER", "")], ".yarn/berry"),
        ],
    ),
    of(
        "bun",
        &[Place::folder(
            &[
                ("BUN_INSTALL_CACHE_DIR", ""),
                ("BUN_INSTALL", "install/cache"),
            ],
            ".bun/install/cache",
        )],
    ),
    of("deno", &[Place::folder(&[("DENO_DIR", "")], "")]),
    of("pip", &[Place::folder(&[("PIP_CACHE_DIR", "")], "")]),
    of(
        "uv",
        &[
            Place::folder(&[("UV_CACHE_DIR", "")], ""),
            Place::folder(&[("XDG_DATA_HOME", "uv")], ".local/share/uv"),
        ],
    ),
    of(
        "go",
        &[
            Place::folder(&[("GOMODCACHE", ""), ("GOPATH", "pkg")], "go/pkg"),
            Place::folder(&[("GOCACHE", "")], ""),
        ],
    ),
    of(
        "gradle",
        &[Place::folder(&[("GRADLE_USER_HOME", "")], ".gradle")],
    ),
    of("mvn", &[Place::folder(&[], ".m2/repository")]),
    of(
        "dotnet",
        &[
            Place::folder(&[("NUGET_PACKAGES", "")], ".nuget/packages"),
            Place::folder(&[("XDG_DATA_HOME", "NuGet")], ".local/share/NuGet"),
            Place::folder(&[("DOTNET_CLI_HOME", ".dotnet")], ".dotnet"),
        ],
    ),
    of("bundle", &[Place::folder(&[], ".bundle/cache")]),
    of("mix", &[Place::folder(&[("HEX_HOME", "")], ".hex")]),
];

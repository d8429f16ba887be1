//! The programs, and how they are brought to talk to the scripted model.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// A program that is there.
pub(crate) struct Program {
    /// The name of its agent.
    pub(crate) name: &'static str,
    command: &'static str,
    path: OsString,
}

/// The ones that can be tried, by the names of their agents, with the names of their programs.
const NAMES: [(&str, &str); 10] = [
    ("claude", "claude"),
    ("codex", "codex"),
    ("gemini", "gemini"),
    ("opencode", "opencode"),
    ("qwen", "qwen"),
    ("acp:claude", "claude-agent-acp"),
    ("acp:codex", "codex-acp"),
    ("acp:gemini", "gemini"),
    ("acp:opencode", "opencode"),
    ("acp:qwen", "qwen"),
];

/// Those that are there, by `AI_SDLC_REAL_AGENTS` or the `PATH`.
pub(crate) fn present() -> Vec<Program> {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let path = match std::env::var_os("AI_SDLC_REAL_AGENTS") {
        Some(folders) => {
            let folders = std::env::split_paths(&folders).collect::<Vec<PathBuf>>();
            let all = folders.into_iter().chain(std::env::split_paths(&usual));
            std::env::join_paths(all).expect("paths of a PATH")
        }
        None => usual,
    };
    let has = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let names = NAMES.into_iter().filter(|(_, program)| has(program));
    names
        .map(|(name, program)| Program {
            name,
            command: program,
            path: path.clone(),
        })
        .collect()
}

impl Program {
    /// What it says of its version.
    pub(crate) fn version(&self) -> String {
        let output = Command::new("sh")
            .args(["-c", &format!("{} --version", self.command)])
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let said = said.unwrap_or_default();
        let words = said.split_whitespace();
        let version = words
            .into_iter()
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
        version.unwrap_or("of an unknown version").to_owned()
    }

    /// Whose keys and settings it has.
    fn kind(&self) -> &'static str {
        self.name.strip_prefix("acp:").unwrap_or(self.name)
    }

    /// Whether it tells what it uses while it works, or ends by itself when that is all that it may use.
    pub(crate) fn is_held_to_its_budget(&self) -> bool {
        ["claude", "opencode", "qwen", "acp:qwen"].contains(&self.name)
    }

    /// Whether it does not find a conversation that it has begun in the same minute: the name of the file has the minute,
    /// and what goes on with it begins the file anew before it reads it.
    pub(crate) fn may_lose_its_last_minute(&self) -> bool {
        self.name == "acp:gemini"
    }

    /// Whether it tells of the tokens of the last answer alone, and not of those of all.
    pub(crate) fn tells_last_answer_alone(&self) -> bool {
        self.name == "acp:opencode"
    }

    /// The variables that bring it to the model at that address.
    pub(crate) fn variables(&self, address: &str, home: &Path) -> Vec<(&'static str, OsString)> {
        let below = |folder: &str| home.join(folder).into_os_string();
        let mut variables = vec![
            ("PATH", self.path.clone()),
            ("HOME", home.into()),
            ("TMPDIR", below("tmp")),
            ("XDG_CONFIG_HOME", below(".config")),
            ("XDG_DATA_HOME", below(".local/share")),
            ("XDG_CACHE_HOME", below(".cache")),
            ("XDG_STATE_HOME", below(".local/state")),
            ("XDG_RUNTIME_DIR", below("run")),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "dumb".into()),
        ];
        variables.extend(match self.kind() {
            "claude" => vec![
                ("ANTHROPIC_BASE_URL", address.into()),
                ("ANTHROPIC_API_KEY", "dummy".into()),
                ("CLAUDE_CONFIG_DIR", below(".claude")),
                // It runs as root here.
                ("IS_SANDBOX", "1".into()),
            ],
            "codex" => vec![
                ("CODEX_HOME", below(".codex")),
                ("OPENAI_API_KEY", "dummy".into()),
            ],
            "gemini" => vec![
                ("GEMINI_API_KEY", "dummy".into()),
                ("GOOGLE_GEMINI_BASE_URL", address.into()),
            ],
            "opencode" => vec![
                (
                    "OPENCODE_CONFIG_CONTENT",
                    opencode(address).to_string().into(),
                ),
                ("OPENCODE_DISABLE_MODELS_FETCH", "1".into()),
                ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1".into()),
                ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1".into()),
            ],
            _ => vec![
                ("OPENAI_API_KEY", "dummy".into()),
                ("OPENAI_BASE_URL", format!("{address}/v1").into()),
                ("OPENAI_MODEL", "fake-model".into()),
            ],
        });
        variables
    }

    /// Makes its home.
    pub(crate) fn furnish(&self, address: &str, home: &Path) {
        for folder in [
            "tmp", "run", ".claude", ".codex", ".gemini", ".qwen", ".config",
        ] {
            fs::create_dir_all(home.join(folder)).expect("a home can be made");
        }
        let settings = |kind: &str| {
            json!({
                "security": {"auth": {"selectedType": kind}},
                "general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false},
                "privacy": {"usageStatisticsEnabled": false},
                "telemetry": {"enabled": false},
            })
            .to_string()
        };
        let file = match self.kind() {
            "codex" => Some((".codex/config.toml", codex(address))),
            "gemini" => Some((".gemini/settings.json", settings("gemini-api-key"))),
            "qwen" => Some((".qwen/settings.json", settings("openai"))),
            _ => None,
        };
        if let Some((name, text)) = file {
            fs::write(home.join(name), text).expect("a home can be written to");
        }
    }

    /// How it is set up in the configuration of the project.
    pub(crate) fn setup(&self) -> Value {
        match self.kind() {
            "claude" => json!({"model": "claude-sonnet-4-5"}),
            "opencode" => json!({"model": "fake/fake-model"}),
            "qwen" => json!({"args": ["--auth-type", "openai"]}),
            "gemini" => json!({"model": "gemini-2.5-pro"}),
            _ => json!({}),
        }
    }
}

fn codex(address: &str) -> String {
    format!(
        "model = \"gpt-5\"\nmodel_provider = \"fake\"\ncheck_for_update_on_startup = false\n\
         [analytics]\nenabled = false\n[otel]\nexporter = \"none\"\n\
         [model_providers.fake]\nname = \"fake\"\nbase_url = \"{address}/v1\"\n\
         env_key = \"OPENAI_API_KEY\"\nwire_api = \"responses\"\n"
    )
}

fn opencode(address: &str) -> Value {
    let models = json!({"fake-model": {"name": "fake-model", "tool_call": true,
        "limit": {"context": 200_000, "output": 8000}, "cost": {"input": 3, "output": 15}}});
    json!({"autoupdate": false, "share": "disabled", "model": "fake/fake-model",
        "small_model": "fake/fake-model", "provider": {"fake": {
            "npm": "@ai-sdk/openai-compatible", "name": "fake", "models": models,
            "options": {"baseURL": format!("{address}/v1"), "apiKey": "dummy"}}}})
}

//! The names of the environment variables that say to an executor who it is. They carry only ids and the socket:
//! everything else comes in `start`.

/// The story.
pub const STORY: &str = "AI_SDLC_STORY_ID";
/// The run.
pub const RUN: &str = "AI_SDLC_RUN_ID";
/// The attempt.
pub const ATTEMPT: &str = "AI_SDLC_ATTEMPT";
/// The path of the socket.
pub const SOCKET: &str = "AI_SDLC_SOCKET";

/// The first of the ports that a story may use. Agents and the user's own commands get it; executors are told of it in
/// `start`.
pub const PORT: &str = "AI_SDLC_PORT";

//! Makes the payloads of a plugin.

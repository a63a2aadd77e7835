"""The WebSocket API: frames in, dispatcher, frames out."""

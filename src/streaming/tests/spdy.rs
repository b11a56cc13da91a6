//! Over SPDY.

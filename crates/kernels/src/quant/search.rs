//! Searches for the scale (and minimum) that lose least.

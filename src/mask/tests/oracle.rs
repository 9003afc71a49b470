//! A slow oracle: says of every part of a text whether it is a value, by definition.

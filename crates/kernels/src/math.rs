//! Elementary functions that vectorise: the same bits in every loop they are used in.

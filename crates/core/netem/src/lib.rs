//! A link emulator as a state machine.

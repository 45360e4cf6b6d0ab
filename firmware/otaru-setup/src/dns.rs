//! The answer to every name: this device.

//! Why an act is allowed or refused.

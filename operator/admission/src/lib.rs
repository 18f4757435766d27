//! What the admission webhooks decide: which pods get a sidecar and how, and which objects are refused. Pure.

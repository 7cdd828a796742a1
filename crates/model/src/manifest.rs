//! Manifests: YAML or JSON text to JSON values that know their lines.

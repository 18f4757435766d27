//! Kubernetes as the mesh sees it: a source of objects, and everything that is written to the API server.

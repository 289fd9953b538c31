//! Speaking to Kubernetes: the client from the node's settings, and the sources of objects.

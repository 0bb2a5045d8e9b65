"""Ray Data: plan, read, decode, replicas, commit; resume, rejects, progress, manifest."""

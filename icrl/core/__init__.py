"""What everything stands on: records, bases, tasks, the loop, registries, settings, errors, draws."""

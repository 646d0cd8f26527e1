"""What everything else stands on: errors, registry, configs, draws, devices, run and bundle folders."""

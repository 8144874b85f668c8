"""The command line of geofuse; :mod:`geofuse_cli.main` is where it starts."""

"""One module per subcommand of ``lipsrl``; :mod:`lipsrl.cli` puts them together."""

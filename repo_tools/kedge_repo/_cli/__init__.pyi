from kedge_repo._cli.app import run as run

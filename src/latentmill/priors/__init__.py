"""What codes are drawn from: models whose examples are codes, one file each; a file's name is that in params.yaml."""

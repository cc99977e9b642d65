from kedge._cli.app import run as run

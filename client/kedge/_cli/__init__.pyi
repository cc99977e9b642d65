from kedge._cli.app import run as run
from kedge._cli.plugins import PLAIN as PLAIN
from kedge._cli.plugins import Verb as Verb
from kedge._cli.plugins import group_of as group_of
from kedge._cli.plugins import help_of_group as help_of_group

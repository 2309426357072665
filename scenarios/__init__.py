"""(room manual to be written)"""

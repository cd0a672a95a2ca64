"""How far a command is, from what it prints.

reading    which reader is believed, and what is shown of what it reads
readers    the table of readers: one for each tool
reader     a reader: its patterns, and what their groups mean
screen     what is printed, as the lines that a terminal shows
"""

module hourglass/generated

go 1.26

"""Tables: any DataFrame with named columns becomes data ready to be fitted.

Read `data.py` first. `columns.py` checks columns and labels them, `seeds.py` tells cells and runs apart,
`options.py` holds the keywords that every fit takes; a new keyword goes there, with the values that it accepts.
"""

package runbooks

// field is where in a page a word stands.
type field uint8

const (
	inName field = iota // title, file name, alert names of the front matter
	inPath              // folders
	inLead              // the first text, and sections that say what the page is about
	inHead              // headings
	inCode              // code blocks, inline code
	inBody              // everything else
	fields
)

// bm25 parameters by field, tuned on the development queries; see docs/runbooks.md.
var fieldWeight = [fields]float32{inName: 6, inPath: 1.5, inLead: 3, inHead: 1.5, inCode: 1, inBody: 1}
var fieldB = [fields]float32{inName: 0.5, inPath: 0, inLead: 0.6, inHead: 0.7, inCode: 0.75, inBody: 0.75}

const k1 = 1.2

// posting is one page a term occurs in, with its counts by field (capped at 255).
type posting struct {
	doc int32
	tf  [fields]uint8
}

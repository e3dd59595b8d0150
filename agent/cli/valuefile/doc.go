// Package valuefile reads reference values out of files that others have signed, and writes them as
// the broker's own file of reference values.
//
// Known are the statements of image publishers (package publication), CoRIM (draft-ietf-rats-corim, with the profiles of AMD and Intel), Google's launch
// endorsements for the firmware of its virtual machines, and ID blocks of SEV-SNP. [Read] tells them
// apart by their bytes, verifies the signature under keys or roots that the operator gave, never
// under those that the file names, and only then looks at a value. What a file says that reference
// values cannot hold is named in [File.Notes], so that nobody believes that it is enforced.
//
// The operator's command line is the only caller: neither the agent nor the broker links this package.
package valuefile

package release

// The words of "release" and its commands.
const (
	short = "Check a download, and sign a release"
	long  = `Checks that the files of a release are those that its publisher signed, and signs new
releases. docs/releases.md describes the signed list.`

	verifyUse   = "verify --publisher PUBLIC DIRECTORY"
	verifyShort = "Check that a download is what its publisher signed"
	verifyLong  = `Checks the signed list of a release (SHA256SUMS.note) against the publisher's public
key, and the files against the list: every listed file must be there with its bytes,
and no other file. With --list it checks the named files instead of a directory.

Get the public key from a source other than the download. The exit status is 3 if
something does not hold; the reason is release-list-invalid, release-publisher-mismatch,
release-file-mismatch or release-file-unlisted.`
	verifyExample = `  anchorhold release verify --publisher publisher.pub ~/Downloads/anchorhold-v0.2.0
  anchorhold release verify --publisher publisher.pub --list SHA256SUMS.note anchorhold-v0.2.0-linux-amd64.tar.gz`

	signUse   = "sign --key FILE --tag NAME --commit ID DIRECTORY"
	signShort = "Sign the files of a directory as a release"
	signLong  = `Signs the list of a directory's files (SHA256SUMS.note) with a publisher's key, for
builds whose key is on another machine. The files must be those of SHA256SUMS, which
'make release' wrote. Nothing is replaced: remove the list and the public key of a
throwaway key first.`
	signExample = `  anchorhold release sign --key publisher.key --credential-file publisher.kek \
    --tag v0.2.0 --commit 0123456789abcdef0123456789abcdef01234567 dist`

	vkeyUse   = "vkey --publisher PUBLIC"
	vkeyShort = "Print the key with which other programs verify the signed list"
	vkeyLong  = `Prints the Ed25519 half of a publisher's key in the form that signed-note programs
(c2sp.org/signed-note) accept. That proves less than 'release verify': it is one half of
the key.`
	vkeyExample = "  anchorhold release vkey --publisher publisher.pub"

	flagPublisher = "the publisher's public key, as text or in a file"
	flagList      = "the signed list, to check the files named and no others"
	flagKey       = "the publisher's key file"
	flagTag       = "the release's version, as the programs print it"
	flagCommit    = "the git commit that was built, 40 hexadecimal digits"

	needsDirectory = "a directory"
	needsFiles     = "with --list, name the files to check"

	verifiedText = "verified\nversion    %s\ncommit     %s\npublisher  %s\n"
	fileText     = "file       %s\n"
	signedText   = "signed     %s, %d files\nlist       %s\npublisher  %s, in %s\n"
)

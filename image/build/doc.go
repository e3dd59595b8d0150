// Package build makes a guest image from Debian packages: a root file system that is never written, hashes over every block of it,
// and a unified kernel image whose command line holds their root hash. The same inputs make the same bytes.
//
// [Image] is what an image is made of; [Image.Build] does the steps and writes, beside the disk, the parts that
// anchorhold-measure reads and a [Manifest]. Foreign tools do what they exist for (mmdebstrap, mkfs.erofs, veritysetup, ukify,
// mtools, sfdisk), each told to leave time and chance out; between them the tree is cleaned in memory ([Tree]), which needs no root.
//
// What the guest is: prune.go says what is taken away (every way to log in, everything that would take the host's word,
// what a guest never runs), guest/ what is added, and packages.txt what is there at all.
package build

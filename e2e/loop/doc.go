// Package loop proves the whole loop on real parts: real API servers from package lab, the built
// binary as a process of its own, its command line as the only way in. Its tests are behind the
// build tag e2e (`make e2e`).
package loop
